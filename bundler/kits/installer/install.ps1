# Finds the Python that this kit is for, and runs install.py with it:
#   powershell -ExecutionPolicy Bypass -File install.ps1 [DIR] [--check]
$kit = Split-Path -Parent $MyInvocation.MyCommand.Path
$version = (Get-Content -Raw (Join-Path $kit 'kit.json') | ConvertFrom-Json).python
$installer = Join-Path $kit 'install.py'
if ($env:PYTHON) {
    & $env:PYTHON -I -B $installer @args
} elseif (Get-Command py -ErrorAction SilentlyContinue) {
    & py "-$version" -I -B $installer @args
} elseif (Get-Command python -ErrorAction SilentlyContinue) {
    & python -I -B $installer @args
} else {
    Write-Error "this kit needs Python $version; set PYTHON to its python.exe if it is installed"
    exit 1
}
exit $LASTEXITCODE
