"""Questions to a trained model, and how likely it finds held-out answers."""
