/** What the two servers are asked, over the same patients of Synthea. */
export const searches = [
  ...["gender=female", "gender=male,female", "gender=other", "gender=female&deceased=true"],
  ...["name=rob", "name=STOKES453", "name:exact=Robin66", "name:contains=bin", "name=mrs.", "name=ro,li"],
  ...["family=st", "family:exact=Stokes453", "family:contains=ok", "given=ro", "given:exact=Robin66", "given=ro,li&gender=female"],
  ...["birthdate=2023-01-30", "birthdate=2023-01", "birthdate=2023", "birthdate=ge2000-01-01", "birthdate=gt2000", "birthdate=lt1990-06"],
  ...["birthdate=le1990-06-15", "birthdate=ge1980&birthdate=lt1990", "birthdate=eq1990,eq1991", "birthdate=ne1990"],
  ...["deceased=true", "deceased=false", "death-date=ge2000-01-01", "death-date:missing=true", "death-date:missing=false"],
  ...["identifier=http://hl7.org/fhir/sid/us-ssn|999-44-8641", "identifier=999-44-8641", "identifier=http://hl7.org/fhir/sid/us-ssn|1"],
  ...["identifier=http://hl7.org/fhir/sid/passport-USA|", "identifier=http://hl7.org/fhir/sid/us-ssn|999-44-8641,nobody"],
  ...["address=reading", "address-city=reading", "address-city:exact=Reading", "address-state=MA", "address-state=NY"],
  ...["address-postalcode=018", "address-country=US", "address-city=bos,spring", "address:contains=approach"],
  ...["phone=555-567-7938", "telecom=phone|555-567-7938", "email:missing=true", "phone:missing=true", "email=nobody@example.com"],
  ...["language=es", "family=st&birthdate=lt1980", "family=st&given=a", "gender=female&address-city=boston&deceased=false"],
];

/** Searches whose order is compared too. No two of the patients share what they are sorted by. */
export const sorted = ["_sort=birthdate&birthdate=ge2000", "_sort=-birthdate&gender=male&birthdate=ge2000"];
