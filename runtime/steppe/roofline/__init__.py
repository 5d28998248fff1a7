"""What would this GPU give this model? A prediction without a measurement, with its error."""
