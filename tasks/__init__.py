"""The built-in tasks: plugins, found as any other package's are."""
