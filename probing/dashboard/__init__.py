"""Streamlit pages over reporting: the only Streamlit code."""
