"""A sweep's tables and pictures: sweep.csv, sweep.md, where the lead changes, lines and maps."""
