"""Parts that backbones and detectors share, yours too: DVC watches this folder."""
