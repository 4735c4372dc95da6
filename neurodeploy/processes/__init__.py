"""Processes, and nothing of them left behind.

Modules, in reading order:
    platforms: Differences between operating systems: usable cores, large pages, locks of files.
    owners: Names that tell which process a file belongs to, and whether it still runs.
    leftovers: Temporary folders, and the removal of those that a killed process left.
    parents: Children that end with the process that started them.
"""
