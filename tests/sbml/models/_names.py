"""Shipped networks whose species have other names in the SBML file, and typical sizes to draw states from."""

import torch

NAMES = {
    "gerard2010": {
        "Md": "cyclin_D_Cdk4_6", "E2F": "transcription_factor_E2F_active", "Me": "cyclin_E_Cdk2", "Ma": "cyclin_A_Cdk2",
        "Mb": "cyclin_B_Cdk1", "Cdc20": "Cdc20_active", "E2F_tot": "E2F_total", "Cdc20_tot": "Cdc20_total",
    },
    "gardner2000": {"LacI": "species_1", "TetR": "species_2", "IPTG": "species_3"},
}  # fmt: skip


def scales(model):
    """A typical size of each species."""
    if model.name == "Gardner1998":  # shares of an enzyme stay below 1
        return torch.tensor([0.2, 0.09, 0.09, 1.0, 1.0], dtype=torch.float64)
    if model.name == "Gerard2010":
        return torch.tensor([0.5, 0.25, 1.0, 1.0, 1.0, 0.4, 3.0, 5.0], dtype=torch.float64)
    x = model.initial_state()[0]
    return x.clamp(min=float(x.max()) / 10 or 1.0) if float(x.max()) > 0 else torch.ones_like(x)
