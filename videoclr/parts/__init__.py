"""Exchangeable pieces, one file each. The built-in ones are found by name like anybody's (see `videoclr.plugins`)."""
