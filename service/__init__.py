"""Hindsight: monitors models whose truth comes late."""
