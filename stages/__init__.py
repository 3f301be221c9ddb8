"""One file a DVC stage: input, output and orchestration; the arithmetic lives in features/."""

import os

# Before torch is imported: threads that wait give up their core. Spinning, they stop each other
# as soon as anything else runs on the machine, and work takes several times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
