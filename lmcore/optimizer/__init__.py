"""How gradients move parameters: AdamW, its decay, the learning-rate schedule, clipping."""
