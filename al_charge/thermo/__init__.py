"""Thermodynamics: the hull, the voltage profile and their error bars."""
