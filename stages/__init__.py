"""One file a DVC stage: input, output and orchestration; the arithmetic lives in features/."""
