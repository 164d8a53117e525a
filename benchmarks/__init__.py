"""Speed and memory, measured beside named peers in one run; dated records live in `records/`."""
