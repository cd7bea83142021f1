"""What two nodes keep for each other: links set up, and the pools of correlations that signing spends."""
