"""What the report step is made of: collect -> figures -> page, without any plotting library."""
