"""What a model is worth, beside controls that could prove it worthless."""
