"""One file a DVC stage: input, output and orchestration; the arithmetic lives in features/."""

import os
import sys
from types import TracebackType

# Before torch is imported: threads that wait give up their core. Spinning, they stop each other
# as soon as anything else runs on the machine, and work takes several times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# NumPy's products are small here and lie beside a network that has all cores: its threads wait
# for each other longer than they compute.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Tell of an error that nobody has caught; of Ctrl-C while a stage is still read in a line."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted: nothing was begun", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _tell
