"""What would this GPU give this model? A prediction for what nobody measured, with its error."""
