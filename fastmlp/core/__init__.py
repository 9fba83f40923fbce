"""What all layers agree on, and nobody computes with: plain data, which imports nothing of ours."""
