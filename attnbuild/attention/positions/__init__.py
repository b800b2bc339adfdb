"""How place enters an attention: rotations of query and key, or a bias on the scores. One a file."""
