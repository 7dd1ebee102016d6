"""Who asks the page for something, which files are theirs, and which of Gradio's routes there are."""
