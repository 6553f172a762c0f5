"""Joint training with the optimal transport loss."""
