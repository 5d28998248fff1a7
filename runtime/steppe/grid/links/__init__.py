"""Transports to a grid."""
