"""How good a restored clip is beside its clean twin: the code behind `videoclr eval` and the tables over many clips.

`views` walks through the clips together and cuts the same crops out of all of them, `observer` looks at a crop with the
networks that are here, `meter` turns that into figures step by step, `table` holds what the figures mean and prints them,
`files` is the command: clips in, table, JSON and CSV out. The formulas are those of `videoclr.metrics`.
"""
