# Finds the Python that this kit is for, and runs install.py with it:
#   powershell -ExecutionPolicy Bypass -File install.ps1 [DIR] [--check]
# $env:PYTHON = 'C:\path\to\python.exe' names one. Writes nothing.
$kit = Split-Path -Parent $MyInvocation.MyCommand.Path
$installer = Join-Path $kit 'install.py'
$version = ''
try { $version = [string](Get-Content -Raw -ErrorAction Stop (Join-Path $kit 'kit.json') | ConvertFrom-Json).python } catch { }
if ($version -notmatch '^3\.[0-9]{1,2}$') {
    [Console]::Error.WriteLine('error: kit.json, beside install.ps1, is missing or damaged: copy the kit again')
    exit 1
}
$question = "import sys; print('%d.%d' % sys.version_info[:2])"
$why = @()
$candidates = if ($env:PYTHON) { @($env:PYTHON) } else { @('py', 'python', 'python3') }
foreach ($python in $candidates) {
    if (-not (Get-Command $python -ErrorAction SilentlyContinue)) {
        $why += "there is no $python"
        continue
    }
    $options = if ($python -eq 'py') { @("-$version") } else { @() }
    $found = ''
    try { $found = [string](& $python @options -E -S -c $question 2>$null) } catch { }
    if ($found -eq $version) {
        & $python @options -I -B $installer @args
        exit $LASTEXITCODE
    }
    $why += if ($found -match '^[23]\.[0-9]{1,2}$') { "$python is $found" } else { "$python has none, or does not work here" }
}
[Console]::Error.WriteLine("error: this kit needs Python ${version}: $($why -join '; ')")
[Console]::Error.WriteLine('')
[Console]::Error.WriteLine("hint: install Python $version, or say where it is: `$env:PYTHON = 'C:\path\to\python.exe'")
exit 1
