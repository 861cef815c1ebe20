"""The line of stages: each a generator, one frame in, one frame out, in order. No stage imports another."""
