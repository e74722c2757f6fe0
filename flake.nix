{
  description = "HTTP servers, one per I/O model, measured: the shell that shell.nix describes";

  # A branch whose Snakemake has functions for priorities; flake.lock says which revision. The newest: nix flake update
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { nixpkgs, ... }:
    {
      devShells = nixpkgs.lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: {
        default = import ./shell.nix { pkgs = nixpkgs.legacyPackages.${system}; };
      });
    };
}
