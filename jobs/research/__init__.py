"""What the commands that compare models share: options, tables and plots."""
