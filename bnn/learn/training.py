"""A training run from configuration to checkpoint file."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import CSVLogger

from bnn.checkpoint import Checkpoint
from bnn.data import Digits, MNISTData
from bnn.decide.classifier import PredictiveEnsemble
from bnn.decide.ensemble import draw_weights
from bnn.decide.rules import fit_rule
from bnn.decide.uncertainty import Predictive
from bnn.errors import InputError
from bnn.learn.config import TrainConfig
from bnn.learn.module import SVIModule
from bnn.networks import build_network
