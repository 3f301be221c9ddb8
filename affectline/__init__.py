"""The `affectline` command: what people ask and do around a run. No stage imports it."""
