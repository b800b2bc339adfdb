"""The gradient of what all steps of a recurrent decoder read, made once for all of them: keys, values, weights."""
