"""One page that compares the runs of a sweep, or of any folder: tables, plots, curves, attention maps."""
