"""From Delta tables to tensors."""
