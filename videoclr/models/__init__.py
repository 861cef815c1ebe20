"""Networks, and their weights on disk. Modules only: nothing here knows of video."""
