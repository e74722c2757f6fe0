# What `make setup` installs, for Nix: nix-shell --run 'snakemake -j1 all'
{
  # nixos-25.11 of 2026-05-10
  pkgs ? import (builtins.fetchTarball {
    url = "https://github.com/NixOS/nixpkgs/archive/8fd9daa3db09ced9700431c5b7ad0e8ba199b575.tar.gz";
    sha256 = "sha256-Ti+ZBvW6yrWWAg2szExVTwCd4qOJ3KlVr1tFHfyfi8Q=";
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
