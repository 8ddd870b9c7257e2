"""A trained model as others load it: an adapter or a checkpoint with a card, on a hub."""
