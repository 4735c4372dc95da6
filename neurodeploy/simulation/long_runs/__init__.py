"""Data sets larger than memory: pieces, finished parts, memory limits, engines."""
