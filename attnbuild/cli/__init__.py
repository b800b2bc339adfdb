"""The command line: Hydra in, exit code out. One small file a command; none imports torch at the top."""
