"""From a trained model to text: sampling rules and the loop with its key-value cache."""
