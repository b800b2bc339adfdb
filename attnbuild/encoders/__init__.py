"""Encoders turn inputs into Memory."""
