"""Text to tokens in Parquet, beside `datasets`."""
