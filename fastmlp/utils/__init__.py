"""Files that appear whole, threads, terminals: what any layer may use, and what knows none."""
