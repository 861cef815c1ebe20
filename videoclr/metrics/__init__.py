"""How good a restoration is: arrays in, numbers out, no network and no file.

`fidelity` compares pictures, `identity` compares embeddings that somebody else made, `temporal` compares motion, and
`running` sums up what comes frame by frame. The definitions are written where they are computed, because published
scripts differ and several are wrong.
"""
