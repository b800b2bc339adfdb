"""Generation: finding output sequences with a decoder that predicts one token at a time.

Everything here knows a decoder by its ``start`` and ``step`` alone, so every search serves every model.
"""
