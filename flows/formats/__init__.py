"""The files a run leaves behind: tokens in Parquet, memory maps, checkpoints, logs, tokenizers."""
