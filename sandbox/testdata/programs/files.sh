set -e
mkdir d && cd d
cp -a /src/text t
ln t l
ln -s t s
mv l m
chmod 640 t
stat -c %a t
touch -d @0 t
stat -c %Y t
dd if=t of=copy bs=1 count=3 status=none
cat copy
truncate -s 1M big
sort -R /dev/null
df . >/dev/null
sync copy
nice -n 3 timeout 9 env X=1 sh -c 'test $X = 1'
ls | wc -l
find . -name t
rm -r t s m copy big
