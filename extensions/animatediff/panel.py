def build(panel, catalog):
    panel.place_all()
