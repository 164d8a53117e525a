"""view: a local web app over run folders. It reads them and nothing else; deleting this package breaks nothing."""
