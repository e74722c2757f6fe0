# What `make setup` installs, for Nix: nix-shell --run 'snakemake -j1 all'
{
  # nixos-unstable of 2026-07-26: older ones have a Snakemake without functions for priorities
  pkgs ? import (builtins.fetchTarball {
    url = "https://github.com/NixOS/nixpkgs/archive/624af665418d3c65d544145b4d34ad696439570e.tar.gz";
    sha256 = "sha256-m0pDuRJG7EDo9ri+4Ksu83VsI+PlxNC9lNBfydejce4=";
  }) { },
}:
let
  # Without this, nixpkgs' own postInstall deletes the static archive, which the io_uring servers link.
  liburing = pkgs.liburing.overrideAttrs (old: {
    postInstall = "install -D -m444 -t $dev/lib $out/lib/liburing.a\n" + old.postInstall or "";
  });
in
pkgs.mkShell {
  packages = [
    # Before snakemake, which brings a python3 without these along.
    (pkgs.python3.withPackages (python: [
      python.pandas
      python.matplotlib
      python.pyyaml
      python.scipy
      python.jsonschema
      python.altair
      python.vl-convert-python
      python.itables
      python.jinja2
    ]))
    pkgs.snakemake
    pkgs.gcc
    pkgs.wrk
    pkgs.iproute2
    pkgs.util-linux
    (pkgs.perf or pkgs.linuxPackages.perf)
    pkgs.cargo-flamegraph
    pkgs.librsvg
    pkgs.git
    pkgs.gnumake
  ];
  buildInputs = [ liburing ];
  # rsvg-convert draws no text without a font.
  FONTCONFIG_FILE = pkgs.makeFontsConf { fontDirectories = [ pkgs.dejavu_fonts ]; };
}
