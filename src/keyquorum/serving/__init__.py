"""What every server of the project needs: bounded connections, patience that ends, and token buckets."""
