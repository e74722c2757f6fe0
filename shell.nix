# All that the workflow calls: nix-shell --run 'snakemake -j1 all', or nix develop. flake.lock has the revision of nixpkgs.
{
  pkgs ?
    let
      nixpkgs = (builtins.fromJSON (builtins.readFile ./flake.lock)).nodes.nixpkgs.locked;
    in
    import (builtins.fetchTarball {
      url = "https://github.com/${nixpkgs.owner}/${nixpkgs.repo}/archive/${nixpkgs.rev}.tar.gz";
      sha256 = nixpkgs.narHash;
    }) {
      # Without the user's own.
      config = { };
      overlays = [ ];
    },
}:
let
  # Without this, nixpkgs' own postInstall deletes the static archive, which the io_uring servers link.
  liburing = pkgs.liburing.overrideAttrs (old: {
    postInstall = "install -D -m444 -t $dev/lib $out/lib/liburing.a\n" + old.postInstall;
  });
in
pkgs.mkShell {
  packages = [
    # Before snakemake, which brings a python3 without these along.
    (pkgs.python3.withPackages (python: [
      python.pandas
      python.matplotlib
      python.scipy
      python.jsonschema
      python.pyyaml
      python.altair
      python.vl-convert-python
      python.itables
      python.jinja2
    ]))
    pkgs.snakemake
    pkgs.gcc
    pkgs.wrk
    pkgs.iproute2
    pkgs.openssh
    pkgs.util-linux
    pkgs.perf
    pkgs.cargo-flamegraph
    pkgs.librsvg
    pkgs.git
    pkgs.gnumake
    # The yardsticks.
    pkgs.nginx
    pkgs.h2o
    pkgs.lighttpd
  ];
  buildInputs = [ liburing ];
  # Where `gcc -print-file-name=liburing.a` looks, by which the workflow tells one liburing from another.
  LIBRARY_PATH = "${liburing.dev}/lib";
  # The servers are compiled with the flags in config.yaml, and none that nixpkgs adds (_FORTIFY_SOURCE and the like).
  hardeningDisable = [ "all" ];
  # rsvg-convert draws no text without a font.
  FONTCONFIG_FILE = pkgs.makeFontsConf { fontDirectories = [ pkgs.dejavu_fonts ]; };
}
