"""What attentions with a feature map share: weights phi(q) . phi(k), summed without the (N, S) matrix."""
