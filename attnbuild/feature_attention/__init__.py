"""Attention over the channels and cells of feature maps, within convolutional networks. One mechanism a file."""
